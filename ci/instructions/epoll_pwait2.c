/* Debian 12's valgrind does not know the system call epoll_pwait2, and a worker that cannot sleep aborts. Preloaded before
 * libc, this sleeps with epoll_wait instead, whole milliseconds rounded up: no hot path sleeps. */
#include <sys/epoll.h>
#include <time.h>

int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout, const __sigset_t *mask)
{
    int ms = timeout ? (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000) : -1;
    return epoll_pwait(epfd, events, max, ms, mask);
}
