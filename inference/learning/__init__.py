"""How the model came to be: data, augmentation, training, evaluation, calibration and figures."""
