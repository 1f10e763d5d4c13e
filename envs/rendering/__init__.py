"""What the pictures of all environments share: modes, screen, market curves, panels, text."""
