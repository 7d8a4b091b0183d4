"""Trees above categories: sums of confidences, and answers at the level at which they are sure enough."""
