"""A hospital's data: the folder's contract, its frames and boxes, the split by subject, and augmentation."""
