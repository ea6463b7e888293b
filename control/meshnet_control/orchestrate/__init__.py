"""Pure steps from services to assigned tasks."""
