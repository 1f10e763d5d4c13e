"""`gridmarl sweep`: settings and seeds on Ray Tune."""
