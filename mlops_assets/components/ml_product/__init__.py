"""The lifecycle of a product, one module a stage, in the order of the flow.

declaration    what a defs.yaml may say
product        the declaration, resolved to names, columns, functions
problem            the rows to predict and their label, by a module or by columns
feature_view   1   the rows to predict, with what was known at their prediction time
training_set   2   labelled rows through the cut-off, with the versions they were made of
training       3   one fit a family
selection      4   the leaderboard, and the candidate
evaluation     5   the candidate is judged: report.py by its scores, evidence.py by its rows,
                   compliance.py by what it means for people and licences
packaging      6   the Bento, built and tried
promotion      7   the champion alias, approved by a person if asked; incumbent.py says what serves
scoring        8   predictions, append-only
performance    9   how the predictions did, once the labels are there
drift         10   how far what is scored has moved
importance    11   what the champion leans on
shadow        12   the predecessor, which goes on scoring beside a new champion
signals       13   all signals about the champion; reads only
retrain_case       whether they open a case; reads only
retrain_decisions  the case decided, by the evidence (probe.py) or by a person
rollback      14   the predecessor comes back
retraining    15   the jobs that cut a new training set, or settle an approval
sensors       16   what looks at all this and launches the jobs
online_features    the newest days, where the endpoint reads them by key
requests      17   what servers were asked and answered, from their logs
skew          18   what servers used, held against the offline path; answers.py reads it back
online_performance 19   served answers with their labels, and versions side by side
model_card    20   what a person should know of the champion
trace              what stands behind one answer; reads only
"""
