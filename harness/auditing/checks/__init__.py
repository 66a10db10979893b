"""The checks, in the order in which they are made and shown."""

from harness.auditing.checks.bounds import bounds, importance_samples
from harness.auditing.checks.conditionals import conditionals, full_size
from harness.auditing.checks.conduct import checkpoint, neighbours, reproducible, unchanged
from harness.auditing.checks.contract import contract
from harness.auditing.checks.dependence import dependence
from harness.auditing.checks.flows import inverse, log_determinant, prior
from harness.auditing.checks.labels import labels
from harness.auditing.checks.normalisation import known_entropy, normalisation
from harness.auditing.checks.sampling import sampling
from harness.auditing.engine import Check

CHECKS: tuple[Check, ...] = (
    Check("contract", "what every method returns has the shape, type and range that it promises", contract),
    Check("normalisation", "probabilities of all images sum to one, bounds to no more", normalisation),
    Check("conditionals", "the likelihood is the product of the conditionals that are sampled from", conditionals),
    Check("sampling", "every sampler draws from the distribution that is scored", sampling),
    Check("full-size", "scores of own samples at a benchmark's size behave as draws must", full_size),
    Check("dependence", "nothing sees the future; all of the past is seen, or what is declared", dependence),
    Check("bounds", "in expectation ELBO <= IWAE-5 <= IWAE-50 <= log p", bounds),
    Check("importance-samples", "K weights asked for are K independent weights", importance_samples),
    Check("log-determinant", "the returned log-determinant is that of the Jacobian of the whole map", log_determinant),
    Check("inverse", "inverse undoes transform", inverse),
    Check("prior", "the prior that is sampled is the prior that is scored", prior),
    Check("unchanged", "outside fit nothing changes a parameter or buffer", unchanged),
    Check("neighbours", "a score depends neither on its batch nor on the call", neighbours),
    Check("reproducible", "torch's seed determines the samples", reproducible),
    Check("checkpoint", "weights saved and loaded give the same scores and samples", checkpoint),
    Check("labels", "labels are used, rightly paired, and marginalised where none is given", labels),
    Check("known-entropy", "no mean score beats the entropy of a known distribution", known_entropy),
)
