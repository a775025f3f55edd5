"""Training of the box refinement network of the target tracker."""
