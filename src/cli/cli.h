/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - the subcommands, and what several of them need.
 *
 * A subcommand is a function like main: argv[0] is its own name.  It returns the exit code
 * (enum sx_exit) and prints its data on stdout, everything else on stderr.
 */
#ifndef SX_CLI_CLI_H
#define SX_CLI_CLI_H

#include "base/rc.h"
#include "cli/options.h"
#include "engine/engine.h"
#include "machine/machine.h"

int sx_cmd_serve(int argc, char **argv);
int sx_cmd_infer(int argc, char **argv);
int sx_cmd_inspect(int argc, char **argv);
int sx_cmd_perf(int argc, char **argv);
int sx_cmd_profile(int argc, char **argv);
int sx_cmd_plan(int argc, char **argv);
int sx_cmd_explain(int argc, char **argv);
int sx_cmd_split(int argc, char **argv);
int sx_cmd_simulate(int argc, char **argv);

/* "staronnx serve: message (hint)" on stderr, one line. */
void sx_complain(const char *name, const struct sx_err *err);
/* The exit code that tells a script what kind of failure it was. */
int sx_exit_of(enum sx_rc rc);

/* The value and the help of --device, wherever several can be given. */
#define SX_DEVICE_HELP                                                                             \
    "what to run on: cpu, cpu:0, cpu:0-3, cpu:0,2; default: all cores, or as many as a CPU quota " \
    "pays for; may be repeated, for several devices; @8 behind it emulates one that is 8 times "   \
    "slower: it computes, then waits"

/* The machine with the devices that the --device texts make of it; none: one of all cores, or of as
 * many as the control group's quota pays for, and then the log says so. */
enum sx_rc sx_open_machine(const struct sx_texts *devices, struct sx_machine **ret_machine,
                           struct sx_err *err);
/* The same for a server, whose executor has room for so many units: on a machine of more cores a
 * unit is several of them, and stderr says so; as it does of devices that are emulated. */
enum sx_rc sx_open_server_machine(const struct sx_texts *devices, struct sx_machine **ret_machine,
                                  struct sx_err *err);
/* Say on stderr which devices are emulated, so that nobody takes their times for real ones. */
void sx_say_emulated(const struct sx_machine *machine);
/* ONNX Runtime.  With a machine, models are prepared for it in the user's cache directory; without
 * one (NULL) they are opened as they are: right for a single run. */
enum sx_rc sx_open_engine(const char *library, const struct sx_machine *machine,
                          struct sx_engine **ret_engine, struct sx_err *err);

/* `explain --server URL`: how a running server's models share its machine, as a table with
 * sentences on stdout, or the server's JSON as it came.  Blocks for the request. */
enum sx_rc sx_explain_server(const char *url, bool json, struct sx_err *err);

/* Can sx_draw make a file of this name?  It ends in .dot or .svg. */
bool sx_can_draw(const char *path);
/* Write Graphviz text: as it is (.dot), or drawn by the program `dot` (.svg).  Blocks for as long
 * as that takes: seconds for thousands of operators.  SX_UNAVAILABLE: the program is not there, or
 * failed. */
enum sx_rc sx_draw(const char *text, const char *path, struct sx_err *err);

#endif
