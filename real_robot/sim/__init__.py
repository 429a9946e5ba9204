"""A simulated arm, its cameras and its scene, which move on with the run's clock; faults on demand."""
