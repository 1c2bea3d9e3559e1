"""The evaluation: data sets, metrics, execution, report, ablation, user study."""
