/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * mix.c - tables of other people's machines.
 *
 * C-2 and C-4 are recalled by their models; C-3 and C-7 are the sets whose demand (57.9 % and
 * 121.9 %) and whose time one after another (151 % and 321 %) the notes have.
 */
#include "sim/mix.h"

#include <math.h>
#include <string.h>

enum {
    MOBILENET,
    ALEXNET,
    BERT,
    RESNET18,
    RESNET50,
    INCEPTION,
    RESNEXT50,
    VGG19,
    CONV1,
    CONV2,
    CONV3
};

static const struct sx_mix_model models[] = {
    [MOBILENET] = {"MobileNet", 20, 25, 16, 10},
    [ALEXNET] = {"AlexNet", 30, 25, 16, 8},
    [BERT] = {"BERT", 30, 25, 16, 9},
    [RESNET18] = {"ResNet-18", 30, 25, 16, 12},
    [RESNET50] = {"ResNet-50", 40, 50, 16, 28},
    [INCEPTION] = {"Inception", 40, 50, 16, 25},
    [RESNEXT50] = {"ResNeXt-50", 50, 100, 16, 40},
    [VGG19] = {"VGG-19", 50, 100, 16, 55},
    /* Objectives of the ConvNets are not recalled: 50 ms holds each of them three times. */
    [CONV1] = {"ConvNet-1", 30, 50, 16, 10.3},
    [CONV2] = {"ConvNet-2", 40, 50, 16, 14.6},
    [CONV3] = {"ConvNet-3", 60, 50, 16, 15.4},
};

static const struct sx_mix mixes[] = {
    {"c2", {&models[RESNET50], &models[VGG19]}, 2},
    {"c3", {&models[MOBILENET], &models[RESNET50], &models[VGG19]}, 3},
    {"c4", {&models[ALEXNET], &models[MOBILENET], &models[RESNET50], &models[VGG19]}, 4},
    {"c7",
     {&models[ALEXNET], &models[MOBILENET], &models[RESNET50], &models[VGG19], &models[RESNET18],
      &models[INCEPTION], &models[RESNEXT50]},
     7},
    {"convnets", {&models[CONV1], &models[CONV2], &models[CONV3]}, 3},
    {NULL, {NULL}, 0},
};

const struct sx_mix *sx_mixes(void)
{
    return mixes;
}

const struct sx_mix *sx_mix_find(const char *name)
{
    for (const struct sx_mix *m = mixes; m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

const struct sx_mix_model *sx_mix_model_find(const char *name)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

void sx_mix_latency(unsigned knee, unsigned batch, double ns, double exponent,
                    struct sx_latency *ret_latency)
{
    *ret_latency = (struct sx_latency){.n_units = 10, .n_batches = batch > 1 ? 2 : 1};
    ret_latency->batches[0] = 1;
    if (batch > 1)
        ret_latency->batches[1] = batch;
    for (unsigned u = 0; u < 10; u++) {
        unsigned units = ret_latency->units[u] = (u + 1) * SX_MIX_UNITS / 10;
        for (unsigned b = 0; b < ret_latency->n_batches; b++)
            ret_latency->ns[u][b] = units >= knee ? ns : ns * pow((double)knee / units, exponent);
    }
    sx_latency_prepare(ret_latency);
}
