"""`gridmarl report`: one HTML page about runs and comparisons."""
