/*
 * See watchdog.h. The kernel's timer of the process: it needs no thread, is not
 * inherited by a fork, and goes on whatever the process is doing.
 */
#include "srv/watchdog.h"
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>

/* From the last words to the end, should the process hang in these. */
#define LAST_WORDS_S 1

static struct itimerval the_half; /* of the span */
static void (*the_last_words)(void);

static void arm(void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

    sigemptyset(&action.sa_mask);
    must(sigaction(SIGALRM, &action, NULL) == 0);
    must(setitimer(ITIMER_REAL, &the_half, NULL) == 0);
}

/*
 * What the last words call is not made for handlers of signals, and what this one interrupts may
 * hold a lock that they need. The action is back to the default by now and
 * SIGALRM is not blocked: the timer's next tick ends the process in any case.
 */
static void on_second_half(int sig)
{
    the_last_words();
    raise(sig);
}

/* The whole span may have passed while the process was stopped: it gets the time to go on. */
static void on_first_half(int sig)
{
    (void)sig;
    arm(on_second_half, SA_NODEFER | SA_RESETHAND);
}

void watchdog_arm(int64_t span_ms, void (*last_words)(void))
{
    the_last_words = last_words;
    the_half = (struct itimerval){
        .it_value = { span_ms / 2 / 1000, span_ms / 2 % 1000 * 1000 },
        .it_interval = { LAST_WORDS_S, 0 },
    };
    arm(on_first_half, SA_RESTART);
}
