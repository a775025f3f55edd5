"""What makes the live graph real time: newest-wins hand-off, workers, timing, processes. No ROS here."""
