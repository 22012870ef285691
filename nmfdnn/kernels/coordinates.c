/* Exact minimisation of ½xᵀGx − cᵀx over x ≥ 0, a coordinate at a time, for each column x of X (k × n, in place).

G (k × k), or one for each column (n × k × k); C (k × n), all contiguous; a coordinate whose diagonal entry is below
the smallest normal number stays. With one G a strip of columns, one lane each, stays in the cache through all sweeps,
and its four vectors of accumulators in registers. With its own G a column keeps c − Gx, which changes where a
coordinate does. REAL is float or double; vectors of 64 bytes are split by the compiler where the processor has
shorter ones. */

#include <float.h>
#include <stdlib.h>
#include <string.h>

typedef REAL vector __attribute__((vector_size(64)));

enum { STRIP = 4 * sizeof(vector) / sizeof(REAL) };

/* max(0, a), but NaN stays. */
static inline vector positive(vector a) {
    const vector zero = {0};
    return (vector)(~(a <= zero) & (__typeof__(a <= zero))a);
}

static inline REAL scale(REAL diagonal) {
    return diagonal >= (sizeof(REAL) == sizeof(float) ? FLT_MIN : DBL_MIN) ? 1 / diagonal : 0;
}

static void strip(REAL *X, const REAL *C, const REAL *G, long k, long n, long width, long sweeps,
                  vector *x, vector *c) {
    const size_t bytes = width * sizeof(REAL);
    memset(x, 0, 8 * k * sizeof(vector)); /* and c, which lies behind it */
    for (long j = 0; j < k; j++) {
        memcpy(x + 4 * j, X + j * n, bytes);
        memcpy(c + 4 * j, C + j * n, bytes);
    }
    while (sweeps--)
        for (long j = 0; j < k; j++) {
            const REAL *g = G + j * k, s = scale(g[j]);
            vector a0 = c[4 * j], a1 = c[4 * j + 1], a2 = c[4 * j + 2], a3 = c[4 * j + 3], *z = x + 4 * j;
            for (long l = 0; l < k; l++) {
                const vector *y = x + 4 * l;
                a0 -= g[l] * y[0], a1 -= g[l] * y[1], a2 -= g[l] * y[2], a3 -= g[l] * y[3];
            }
            z[0] = positive(z[0] + s * a0), z[1] = positive(z[1] + s * a1);
            z[2] = positive(z[2] + s * a2), z[3] = positive(z[3] + s * a3);
        }
    for (long j = 0; j < k; j++)
        memcpy(X + j * n, x + 4 * j, bytes);
}

/* The slope c − Gx when x has d more of the coordinate whose row of G is g: its column, too. */
static inline void moved(REAL *restrict slope, const REAL *restrict g, long k, REAL d) {
    for (long l = 0; l < k; l++)
        slope[l] -= d * g[l];
}

static void column(REAL *X, const REAL *C, const REAL *G, long k, long n, long sweeps, REAL *x, REAL *slope) {
    for (long j = 0; j < k; j++)
        x[j] = X[j * n], slope[j] = C[j * n];
    for (long j = 0; j < k; j++)
        if (x[j] != 0)
            moved(slope, G + j * k, k, x[j]);
    while (sweeps--)
        for (long j = 0; j < k; j++) {
            const REAL *g = G + j * k, end = x[j] + scale(g[j]) * slope[j], d = (end <= 0 ? 0 : end) - x[j];
            if (d != 0) { /* NaN stays */
                moved(slope, g, k, d);
                x[j] += d;
            }
        }
    for (long j = 0; j < k; j++)
        X[j * n] = x[j];
}

/* 0, or 1 where there was no memory for the strips. */
int descend(REAL *X, const REAL *C, const REAL *G, long k, long n, long sweeps, int own, int threads) {
    const long width = own ? 1 : STRIP;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        vector *x = aligned_alloc(sizeof(vector), 8 * k * sizeof(vector));
        failed = !x;
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n; i += width)
            if (x && own)
                column(X + i, C + i, G + i * k * k, k, n, sweeps, (REAL *)x, (REAL *)(x + k));
            else if (x)
                strip(X + i, C + i, G, k, n, n - i < STRIP ? n - i : STRIP, sweeps, x, x + 4 * k);
        free(x);
    }
    return failed;
}
