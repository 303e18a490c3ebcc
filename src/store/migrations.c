/*
 * See migrations.h.
 */
#include "store/migrations.h"

int migrations_judge(const struct migrations *m, unsigned version, struct err *e)
{
    if (version == m->count)
        return 0;
    if (version == 0)
        return err_set(e, ERR_CONFIG, "weir's tables are missing; run: weir migrations up");
    if (version < m->count)
        return err_set(e, ERR_CONFIG,
                       "weir's tables are of version %u, this weir needs %u; run: weir migrations "
                       "up",
                       version, m->count);
    return err_set(
        e, ERR_CONFIG,
        "weir's tables are of version %u, this weir knows only %u; upgrade weir here too", version,
        m->count);
}
