/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rc.h - result codes and explained errors.
 *
 * A function that can fail returns `enum sx_rc`; 0 is success.  A code is chosen by what the
 * caller can do about it, not by who found it.  Hot paths return the code alone.  Cold paths
 * (load, parse, configure) also fill a `struct sx_err`: what went wrong, what to do next.
 *
 * Rules for every function with an `err` parameter:
 *   - `err` may be NULL: the caller wants the code alone;
 *   - on success it is left untouched;
 *   - on failure `err->rc` equals the returned code.
 */
#ifndef SX_BASE_RC_H
#define SX_BASE_RC_H

#include <stdarg.h>

/*   code, what it says to a person, HTTP status, gRPC status (what each wire answers) */
#define SX_RC_TABLE(X)                                                                             \
    X(OK, "ok", 200, 0)                                                                            \
    X(INVALID, "invalid argument", 400, 3)    /* the input is wrong: mend it, don't retry */       \
    X(NOT_FOUND, "not found", 404, 5)         /* no such model, file, tensor */                    \
    X(TOO_LARGE, "too large", 413, 8)         /* over a limit that a setting can raise */          \
    X(UNSUPPORTED, "not supported", 501, 12)  /* well formed, but we do not do that */             \
    X(UNAVAILABLE, "unavailable", 503, 14)    /* not now: overloaded, loading or stopping */       \
    X(DEADLINE, "deadline exceeded", 503, 14) /* admitted, but its time ran out: see README */     \
    X(CANCELLED, "cancelled", 499, 1)         /* the caller went away */                           \
    X(NO_MEMORY, "out of memory", 503, 8)     /* retry when there is more */                       \
    X(IO, "input/output error", 500, 14)      /* a file or socket failed */                        \
    X(ENGINE, "the model could not be run", 500, 13) /* the engine refused or failed */            \
    X(INTERNAL, "internal error", 500, 13)           /* our bug */

enum sx_rc {
#define SX_RC_ENUM(code, text, http, grpc) SX_##code,
    SX_RC_TABLE(SX_RC_ENUM)
#undef SX_RC_ENUM
        SX_RC_COUNT
};

/* A short text for a code, for logs; never NULL. */
const char *sx_rc_text(enum sx_rc rc);
/* The HTTP status that answers a failed request. */
int sx_rc_http(enum sx_rc rc);
/* The gRPC status that answers a failed request. */
int sx_rc_grpc(enum sx_rc rc);

/* An explained error.  Plain data, no ownership: copy it freely. */
struct sx_err {
    enum sx_rc rc;
    char message[384]; /* what went wrong, with the names that identify it; no final stop */
    char hint[256];    /* what to do next; "" if there is nothing to say */
};

/* Fill `err` (may be NULL) and return `rc`, so that a failure is one line:
 *     return sx_fail(err, SX_INVALID, "input '%s': rank %d, expected %d", name, got, want);  */
enum sx_rc sx_fail(struct sx_err *err, enum sx_rc rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Say what to do next; keeps the message. */
void sx_hint(struct sx_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Put context before the message: "model 'x': " + what was there. Returns err->rc
 * (SX_INTERNAL when err is NULL, so only use the result where err is known). */
enum sx_rc sx_while(struct sx_err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
