"""kdjax: what does temperature do in knowledge distillation, and when is it logit matching?

After Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
"""
