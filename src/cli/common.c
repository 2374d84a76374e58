/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "exec/exec.h"

void sx_complain(const char *name, const struct sx_err *err)
{
    if (err->hint[0])
        fprintf(stderr, "%s: %s (%s)\n", name, err->message, err->hint);
    else
        fprintf(stderr, "%s: %s\n", name, err->message);
}

int sx_exit_of(enum sx_rc rc)
{
    switch (rc) {
    case SX_OK:
        return SX_EXIT_OK;
    case SX_INVALID:
    case SX_NOT_FOUND:
    case SX_TOO_LARGE:
    case SX_UNSUPPORTED:
        return SX_EXIT_INPUT;
    case SX_UNAVAILABLE:
        return SX_EXIT_UNAVAILABLE;
    default:
        return SX_EXIT_FAILED;
    }
}

enum sx_rc sx_open_machine(const struct sx_texts *devices, struct sx_machine **ret_machine,
                           struct sx_err *err)
{
    struct sx_machine *machine;
    enum sx_rc rc = sx_machine_detect(&machine, err);

    if (rc != SX_OK)
        return rc;
    unsigned n_units = machine->n_units;
    if (!devices->count && sx_machine_keep_quota(machine))
        sx_info("%u of %u cores are used, as the control group allows the time of %.3g; choose "
                "cores with --device",
                machine->n_units, n_units, machine->quota_cores);
    rc = sx_machine_select(machine, devices->item, devices->count, err);
    if (rc != SX_OK) {
        sx_machine_destroy(machine);
        return rc;
    }
    *ret_machine = machine;
    return SX_OK;
}

void sx_say_emulated(const struct sx_machine *machine)
{
    for (unsigned d = 0; d < machine->n_devices; d++) {
        const struct sx_device *device = &machine->devices[d];
        if (device->slowdown > 1)
            fprintf(stderr,
                    "%s is emulated: it computes, then waits until %g times that have passed\n",
                    device->name, device->slowdown);
    }
}

enum sx_rc sx_open_server_machine(const struct sx_texts *devices, struct sx_machine **ret_machine,
                                  struct sx_err *err)
{
    struct sx_machine *machine;
    enum sx_rc rc = sx_open_machine(devices, &machine, err);

    if (rc != SX_OK)
        return rc;
    rc = sx_machine_group(machine, sx_exec_max_units(SX_EXEC_STARPU), err);
    if (rc != SX_OK) {
        sx_machine_destroy(machine);
        return rc;
    }
    if (machine->unit_cores > 1)
        sx_info("%u units of %u cores each: StarPU here has room for no more units",
                machine->n_units, machine->unit_cores);
    sx_say_emulated(machine);
    *ret_machine = machine;
    return SX_OK;
}

enum sx_rc sx_open_engine(const char *library, const struct sx_machine *machine,
                          struct sx_engine **ret_engine, struct sx_err *err)
{
    char cache[PATH_MAX];
    struct sx_engine_config config = {
        .name = "ort",
        .library = library,
        .cache_dir = machine && sx_cache_dir(cache, sizeof cache) == SX_OK ? cache : NULL,
        .machine_id = machine ? machine->id : NULL,
    };

    return sx_engine_create(&config, ret_engine, err);
}
