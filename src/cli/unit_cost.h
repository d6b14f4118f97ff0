// unit_cost.h: what each unit of a model costs: the KL divergence of the model in which it alone is quantized.
#pragma once

#include "base/progress.h"
#include "cli/mixture.h"
#include "cli/probe.h"

// kl (oct_unit_count): of each unit of the plan by the first num_stretches of the probe; NaN for those that it leaves alone. False: the
// receiver of the progress asked to stop.
bool oct_unit_costs(const struct oct_runner *plain, const struct oct_runner *quantized, const struct oct_plan *plan,
                    struct oct_probe *probe, int num_stretches, const struct oct_progress *progress, double *kl);
