"""How far a held-out hospital lies from the sources, measured in the latents of a frozen encoder that never move.

A site turns latents [N, D] into statistics over at least `privacy.min_subjects` subjects, and seals them for the other
hospitals; what is needed of all sources together alone is masked besides, so that only the sum can be read. Each
hospital works the models out for itself and scores its own frames; the coordinator carries messages and reads scores.

Two sums of the same zzᵀ under different weights are never sent, not even pooled: with no more frames than dimensions
their generalised eigenvectors are the latents themselves (Jennrich's algorithm). So the scatter is told once for an
encoder, unweighted, and neither Hessians of the probe nor the second moment of the normalised latents are told at all.
"""
