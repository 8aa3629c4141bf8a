"""How far a held-out hospital lies from the sources, measured in the latents of a frozen encoder that never move.

A site turns latents [N, D] into sums over at least `privacy.min_subjects` subjects; the coordinator adds them up and
sends a model back; the site scores its own frames with it. Each module says which of its functions runs on which side.

Two sums of the same zzᵀ under different weights are never sent: with no more frames than dimensions their generalised
eigenvectors are the latents themselves (Jennrich's algorithm). So the second moment leaves a site once for an encoder,
unweighted, and neither Hessians of the probe nor the second moment of the normalised latents leave at all.
"""
