"""What each of our processes does about itself: it says that it lives, logs, knows its limits."""
