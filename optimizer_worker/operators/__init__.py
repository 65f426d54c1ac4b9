"""The rules for rows; each returns decisions, and only `Corpus.apply` changes the rows.

The program gives `labels.py` its classifier, because only programs import scikit-learn.
"""
