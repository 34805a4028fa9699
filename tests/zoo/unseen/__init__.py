"""Programs written without a look at any probe, each with its faults and its healthy look-alikes in one file."""
