"""Benign or malignant from one input alone (paper, Fig. 6): classifiers, inputs, AUROC."""
