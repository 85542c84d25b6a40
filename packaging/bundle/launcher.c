/* What `nsfwscan` is in a bundle for Linux: it looks at the files that Python is started from, and
 * starts it. A damaged one would end the program by a signal, before any line of Python could say why.
 *
 * In: files.h, which packaging/bundle/launcher.py writes: FILES, rows of path in the bundle, size in
 * bytes and Adler-32; PROGRAM, the path of what is started; CHECKED, the variable that tells it
 * which process looked; HELD, the variable that tells it in which process Ctrl-C waits for it; HINT,
 * what to do about damage.
 * Out: PROGRAM in this very process, or two lines on stderr and exit code UNSOUND or FAILED. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

/* Exit codes; ../../nsfwscan/cli/shared/codes.py says what they mean. */
enum { FAILED = 6, UNSOUND = 7 };

enum { CHUNK = 1 << 18 };

static const struct {
    const char *path;
    intmax_t bytes;
    uint32_t adler32;
} files[] = {FILES};

/* Adler-32 (RFC 1950): weak for some bytes, but these are millions, and it takes half the time of
 * CRC-32, at every start. Sums of a block are taken by themselves, so that compilers use vectors. */
enum { BLOCK = 32, PRIME = 65521, UNTIL_OVERFLOW = 5536 };

struct adler {
    uint32_t sum, sums;
};

static void extend(struct adler *adler, const unsigned char *data, size_t bytes)
{
    uint32_t sum = adler->sum, sums = adler->sums;
    while (bytes > 0) {
        size_t part = bytes < UNTIL_OVERFLOW ? bytes : UNTIL_OVERFLOW;
        bytes -= part;
        for (; part >= BLOCK; data += BLOCK, part -= BLOCK) {
            uint32_t plain = 0, weighted = 0;
            for (int i = 0; i < BLOCK; i++) {
                plain += data[i];
                weighted += (uint16_t)((BLOCK - i) * data[i]);
            }
            sums += BLOCK * sum + weighted;
            sum += plain;
        }
        for (; part > 0; data++, part--) {
            sum += *data;
            sums += sum;
        }
        sum %= PRIME;
        sums %= PRIME;
    }
    adler->sum = sum;
    adler->sums = sums;
}

static _Noreturn void refuse(const char *path, const char *problem)
{
    dprintf(STDERR_FILENO, "nsfwscan: this copy of nsfwscan is damaged: %s %s\n  %s\n", path, problem,
            HINT);
    _exit(UNSOUND);
}

static _Noreturn void refuse_unread(const char *path)
{
    char problem[256];
    snprintf(problem, sizeof problem, "cannot be read: %s", strerror(errno));
    refuse(path, problem);
}

static void check(const char *path, intmax_t bytes, uint32_t adler32)
{
    static unsigned char chunk[CHUNK];
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0)
        refuse_unread(path);
    if (status.st_size != bytes) {
        char problem[128];
        snprintf(problem, sizeof problem, "has %jd bytes and not %jd", (intmax_t)status.st_size, bytes);
        refuse(path, problem);
    }
    struct adler adler = {1, 0};
    for (;;) {
        ssize_t got = read(file, chunk, CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            refuse_unread(path);
        if (got == 0)
            break;
        extend(&adler, chunk, (size_t)got);
    }
    close(file);
    if ((adler.sums << 16 | adler.sum) != adler32)
        refuse(path, "is not as it was packed");
}

/* Put the path of the bundle's file `name` after the `length` bytes of the bundle's own. */
static void enter(char path[PATH_MAX], size_t length, const char *name)
{
    if (length + strlen(name) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        refuse_unread(name);
    }
    strcpy(path + length, name);
}

int main(int count, char **arguments)
{
    char path[PATH_MAX], checked[32];
    (void)count;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) {
        dprintf(STDERR_FILENO, "nsfwscan: /proc/self/exe cannot be read: %s\n  mount /proc: the program "
                "finds its files by it\n", strerror(errno));
        return FAILED;
    }
    while (length > 0 && path[length - 1] != '/')
        length--;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        enter(path, (size_t)length, files[i].path);
        check(path, files[i].bytes, files[i].adler32);
    }
    /* nsfwscan/system/bundled.py need not look at them again in the process of this number. */
    snprintf(checked, sizeof checked, "%jd", (intmax_t)getpid());
    setenv(CHECKED, checked, 1);
    /* Python answers Ctrl-C with a traceback until the program's first line has run, and with exit
     * code 1 in part of that time. So it waits until that line; ../program.py lets it through. */
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    if (!sigismember(&before, SIGINT))
        setenv(HELD, checked, 1);
    enter(path, (size_t)length, PROGRAM);
    execv(path, arguments);
    refuse_unread(path);
}
