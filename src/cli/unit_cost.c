// unit_cost.c: one unit after the other is switched over, tried and switched back.
#include "cli/unit_cost.h"

#include <math.h>

bool oct_unit_costs(const struct oct_runner *plain, const struct oct_runner *quantized, const struct oct_plan *plan,
                    struct oct_probe *probe, int num_stretches, const struct oct_progress *progress, double *kl) {
    struct oct_mixture mixture;
    int units = oct_unit_count(plan->num_layers);
    bool stop = false;
    oct_mixture_open(plain, quantized, &mixture);
    for (int unit = 0; unit < units && !stop; unit++) {
        kl[unit] = (double)NAN;
        if (oct_unit_is_planned(plan, unit)) {
            oct_mixture_set(&mixture, unit, true);
            kl[unit] = oct_probe_run(probe, &mixture.runner, num_stretches).mean_kl;
            oct_mixture_set(&mixture, unit, false);
        }
        stop = oct_progress_report(progress, "trying modules", (size_t)unit + 1, (size_t)units);
    }
    oct_mixture_close(&mixture);
    return !stop;
}
