"""How signals and gradients travel through the networks, before and after training.

The equations of He et al. 2016b (arXiv:1603.05027), section 2 and 3, checked on numbers.
"""
