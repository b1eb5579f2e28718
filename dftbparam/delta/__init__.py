"""Delta models: what a reference adds to DFTB, learnt by Gaussian processes with error bars (docs/delta.md).

`data` reads references and subtracts the base, `training` makes a model, `model_file` keeps it, `calculator` uses it in
ASE. Needs the extra ``delta`` (gpytorch, featomic), which is imported inside the functions that use it.
"""
