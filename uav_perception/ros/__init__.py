"""The stages behind ROS 2: thin adapters. ``rclpy`` is imported only in this room."""
