"""Every client by itself: what a federation has to beat."""
