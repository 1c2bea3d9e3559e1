"""Evidence: data sets, metrics, runs of many methods over many pictures, tables, reports, the user study."""
