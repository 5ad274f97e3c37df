import search

# Three trials of a ResNet-8 on scikit-learn's digits: the two recipes of the study, and one suggestion.
result = search.run_study("digits_resnet8", trials=3, epochs=4, progress=False)

best, winner = result.best(), result.winner()  # of the search, and of the refit over fresh seeds
print(best.number, best.value("val_accuracy"), winner.config["optimizer"])

table = result.table().to_pandas()  # a row for each trial and epoch, with every metric and setting
print(table.groupby("trial_id")["val_accuracy"].max())

# The same from another process, also while the search runs. The same call of run_study continues an interrupted one.
assert search.open_study("digits_resnet8").best() == best
