/*
 * What a store said no to, and until when: as long as that holds, the store is
 * not asked again. Bounded: new refusals push old ones out. Each is asked
 * again after a few seconds all the same, because a counter may be reset from
 * elsewhere.
 */
#ifndef WEIR_STORE_REFUSALS_H
#define WEIR_STORE_REFUSALS_H

#include "shm/counter.h"
#include "shm/siphash.h"

struct refusals;
struct store_ask;
struct store_question;

struct refusals *refusals_new(void) __attribute__((returns_nonnull));
void refusals_free(struct refusals *r);

/*
 * An ask that was answered with fewer grants than it wanted. what names the question whole, who
 * its identity alone.
 */
void refusals_add(struct refusals *r, const struct siphash_sum *who, const struct siphash_sum *what,
                  const struct store_ask *ask);

/* Whether the question is refused still; then use (of the question's n windows) is filled in. */
bool refusals_hold(struct refusals *r, const struct siphash_sum *who,
                   const struct siphash_sum *what, int64_t now_ms, struct counter_use *use);

/* What is charged to a refused identity counts in what refusals_hold tells of it. */
void refusals_count(struct refusals *r, const struct siphash_sum *who,
                    const struct store_question *q, int64_t amount, int64_t now_ms);

/* Forgets an identity, or, with NULL, all. */
void refusals_forget(struct refusals *r, const struct siphash_sum *who);

#endif
