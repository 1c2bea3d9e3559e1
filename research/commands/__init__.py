"""The commands of the research side: data sets, evaluation, ablation, user study, embedded training."""
