"""What a prosumer gains by deviating alone: best responses and exploitability."""
