/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - `staronnx SUBCOMMAND`: one table, one line each.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", sx_cmd_serve, "serve models over HTTP (the Open Inference Protocol)"},
    {"infer", sx_cmd_infer, "run one request from files, print and save the outputs"},
    {"inspect", sx_cmd_inspect,
     "show a model: inputs, outputs, operators, parameters, FLOPs, memory"},
    {"perf", sx_cmd_perf, "put load on a model or a server and report latency and throughput"},
    {"profile", sx_cmd_profile, "measure a model's operators on each kind of device"},
    {"plan", sx_cmd_plan, "predict a model on several devices: whole, and cut into stages"},
    {"explain", sx_cmd_explain, "show a plan's stages, draw its pipeline, measure it"},
    {"split", sx_cmd_split, "write a model's stages as ONNX files"},
    {"simulate", sx_cmd_simulate, "simulate models that share machines, in virtual time"},
    {"version", cmd_version, "print the version"},
    {"help", cmd_help, "print this page, or a subcommand's: help SUBCOMMAND"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown(const char *name)
{
    const char *words[N_COMMANDS + 1] = {0}, *meant;

    for (size_t i = 0; i < N_COMMANDS; i++)
        words[i] = commands[i].name;
    meant = name[0] == '-' ? NULL : sx_suggest(name, words);
    fprintf(stderr, "staronnx: no %s '%s'", name[0] == '-' ? "option" : "subcommand", name);
    if (meant)
        fprintf(stderr, "; did you mean '%s'?", meant);
    fprintf(stderr, " (see staronnx --help)\n");
    return SX_EXIT_USAGE;
}

static void print_usage(FILE *to)
{
    fprintf(to, "usage: staronnx SUBCOMMAND [OPTIONS]\n\n"
                "Serves ONNX models on every processor of a machine at once.\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\n`staronnx SUBCOMMAND --help` says more; the manual is staronnx(1).\n"
                "Exit status: 0 done, 1 failed, 2 wrong command line, 3 a file, model or directory "
                "cannot\nbe used, 4 a port, library or server is not available.\n");
}

static int cmd_version(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        fprintf(stderr, "staronnx version: takes no arguments\n");
        return SX_EXIT_USAGE;
    }
    printf("staronnx %s\n", SX_VERSION);
    return SX_EXIT_OK;
}

static int cmd_help(int argc, char **argv)
{
    char help[] = "--help";
    const struct command *c;

    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "version") == 0) {
        print_usage(stdout);
        return SX_EXIT_OK;
    }
    c = find(argv[1]);
    if (!c)
        return unknown(argv[1]);
    return c->run(2, (char *[]){argv[1], help, NULL});
}

int main(int argc, char **argv)
{
    const struct command *c;
    int code;

    if (argc < 2) {
        print_usage(stderr);
        return SX_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        code = SX_EXIT_OK;
    } else if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        code = cmd_version(1, argv);
    } else {
        c = find(argv[1]);
        code = c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
    }
    /* a full disk or a closed pipe must not look like success */
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == SX_EXIT_OK) {
        fprintf(stderr, "staronnx: cannot write to standard output\n");
        code = SX_EXIT_FAILED;
    }
    return code;
}
