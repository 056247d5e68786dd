"""What the scripts share: the customer, the training table, training and the model."""
