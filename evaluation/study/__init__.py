"""The user study of LocInv's Table 1 and Fig. 11: the edit that people like best, and the best background."""
