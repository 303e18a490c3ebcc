/*
 * See watchdog.h. The kernel's timer of the process: it needs no thread, is not
 * inherited by a fork, and goes on whatever the process is doing.
 */
#include "srv/watchdog.h"
#include "base/log.h"
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>

/* From the last words to the end, should the process hang in these. */
#define LAST_WORDS_S 1

/*
 * The log is not made for handlers of signals, and what this one interrupts may
 * hold a lock that the log needs. The action is back to the default by now and
 * SIGALRM is not blocked: the timer's next tick ends the process in any case.
 */
static void on_alarm(int sig)
{
    log_error("this process has stood still for twice the heartbeat_timeout: it ends itself");
    raise(sig);
}

void watchdog_arm(int64_t span_ms)
{
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_NODEFER | SA_RESETHAND };
    const struct itimerval timer = {
        .it_value = { span_ms / 1000, span_ms % 1000 * 1000 },
        .it_interval = { LAST_WORDS_S, 0 },
    };

    sigemptyset(&action.sa_mask);
    must(sigaction(SIGALRM, &action, NULL) == 0);
    must(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}
