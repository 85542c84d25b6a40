/* Preloaded into a program, lets local files behave as those of NFS do on Linux:
 *
 * - flock(2), "NFS details": a shared lock needs a descriptor open for reading, an exclusive one a
 *   descriptor open for writing; EBADF otherwise.
 * - renameat2(2) knows no flags there: EINVAL.
 * - A file that somebody else removed is a stale handle: ESTALE. One's own client keeps a file that
 *   it removes while it is open, so what this process removed is spared.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MOST 4096

static ino_t removed[MOST];
static unsigned count;

static void spare(int folder, const char *path)
{
    struct stat found;
    if (REAL(fstatat)(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0)
        removed[count++ % MOST] = found.st_ino;
}

static int is_stale(int file)
{
    struct stat found;
    if (REAL(fstat)(file, &found) || !S_ISREG(found.st_mode) || found.st_nlink)
        return 0;
    for (unsigned i = 0; i < count && i < MOST; i++)
        if (removed[i] == found.st_ino)
            return 0;
    errno = ESTALE;
    return 1;
}

int flock(int file, int operation)
{
    int mode = fcntl(file, F_GETFL) & O_ACCMODE;
    if (((operation & LOCK_EX) && mode == O_RDONLY) || ((operation & LOCK_SH) && mode == O_WRONLY)) {
        errno = EBADF;
        return -1;
    }
    return is_stale(file) ? -1 : REAL(flock)(file, operation);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    if (flags) {
        errno = EINVAL;
        return -1;
    }
    spare(to, new);
    return REAL(renameat2)(from, old, to, new, flags);
}

int rename(const char *old, const char *new)
{
    spare(AT_FDCWD, new);
    return REAL(rename)(old, new);
}

int unlink(const char *path)
{
    spare(AT_FDCWD, path);
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    spare(folder, path);
    return REAL(unlinkat)(folder, path, flags);
}

ssize_t read(int file, void *data, size_t size)
{
    return is_stale(file) ? -1 : REAL(read)(file, data, size);
}

ssize_t write(int file, const void *data, size_t size)
{
    return is_stale(file) ? -1 : REAL(write)(file, data, size);
}

int fsync(int file)
{
    return is_stale(file) ? -1 : REAL(fsync)(file);
}

int fstat(int file, struct stat *found)
{
    return is_stale(file) ? -1 : REAL(fstat)(file, found);
}

int fstat64(int file, struct stat64 *found)
{
    return is_stale(file) ? -1 : REAL(fstat64)(file, found);
}
