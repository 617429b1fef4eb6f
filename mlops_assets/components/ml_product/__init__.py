"""The lifecycle of a product, one module a stage, in the order of the flow.

declaration   what a defs.yaml may say
product       the declaration, resolved: names, columns, the problem's functions
feature_view  1  the rows to predict, with what was known at their prediction time
training_set  2  labelled rows through the cut-off, with the versions they were made of
training      3  one fit a family, the leaderboard, the candidate
evaluation    4  the report, and the gates
packaging     5  the Bento, built and tried
promotion     6  the champion alias, approved by a person if asked
scoring       7  predictions, append-only
monitoring    8  performance and drift
retraining    9  the jobs that cut a new training set, or settle an approval
"""
