"""Shows a directory by FUSE as a client of NFS shows it, in what differs from a local filesystem.

A file that is removed or replaced while it is open stays under a silly name, which cannot be removed before the last
close. Attributes and names are known for a while, as they were. Times that are set are kept as finely as the last
argument says, in nanoseconds. For each file in the directory `stale`, such as `mkdir-1`, one call of that operation
gets ESTALE.
"""

import errno
import os
import re
import sys

from fusepy import FUSE, FuseOSError, Operations

source, point, stale = sys.argv[1:4]
granularity = int(sys.argv[4])


def silly(path):
    """libfuse renames what is removed while it is open, and removes it after the last close."""
    return re.sub(r'\.fuse_hidden([0-9a-f]{16})$', r'.nfs00000000\1', path)


class NfsLike(Operations):
    # A file that was removed is read on by its handle.
    flag_nullpath_ok = 1
    use_ns = True

    def __init__(self):
        self.open_files = {}

    def __call__(self, operation, path, *args):
        for name in sorted(os.listdir(stale)):
            if name.split('-')[0] == operation:
                os.unlink(os.path.join(stale, name))
                raise FuseOSError(errno.ESTALE)
        try:
            args = [silly(arg) if isinstance(arg, str) else arg for arg in args]
            return getattr(self, operation)(path and source + silly(path), *args)
        except OSError as error:
            raise FuseOSError(error.errno) from error

    def getattr(self, path, fh=None):
        stats = os.lstat(path) if fh is None else os.fstat(fh)
        names = 'st_atime st_ctime st_gid st_ino st_mode st_mtime st_nlink st_size st_uid st_blocks'.split()
        found = {name: getattr(stats, name) for name in names}
        return found | {name: getattr(stats, f'{name}_ns') for name in names if name.endswith('time')}

    def opened(self, fd):
        inode = os.fstat(fd).st_ino
        self.open_files[inode] = self.open_files.get(inode, 0) + 1
        return fd

    def open(self, path, flags):
        return self.opened(os.open(path, flags & ~os.O_CREAT & ~os.O_EXCL))

    def create(self, path, mode, fi=None):
        return self.opened(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))

    def release(self, path, fh):
        inode = os.fstat(fh).st_ino
        self.open_files[inode] -= 1
        os.close(fh)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def flush(self, path, fh):
        pass

    def fsync(self, path, datasync, fh):
        os.fsync(fh)

    def truncate(self, path, length, fh=None):
        os.truncate(path if fh is None else fh, length)

    def unlink(self, path):
        if os.path.basename(path).startswith('.nfs') and self.open_files.get(os.lstat(path).st_ino):
            raise OSError(errno.EBUSY, 'it is open')
        os.unlink(path)

    def rename(self, old, new):
        os.rename(old, source + new)

    def link(self, path, target):
        os.link(source + target, path)

    def symlink(self, path, target):
        os.symlink(target, path)

    def readlink(self, path):
        return os.readlink(path)

    def readdir(self, path, fh):
        return ['.', '..', *os.listdir(path)]

    def mkdir(self, path, mode):
        os.mkdir(path, mode)

    def rmdir(self, path):
        os.rmdir(path)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def chown(self, path, uid, gid):
        os.lchown(path, uid, gid)

    def utimens(self, path, times=None):
        kept = times and tuple(time // granularity * granularity for time in times)
        os.utime(path, ns=kept, follow_symlinks=False)

    def access(self, path, mode):
        if not os.access(path, mode):
            raise OSError(errno.EACCES, 'no access')

    def statfs(self, path):
        stats = os.statvfs(path)
        return {name: getattr(stats, name) for name in ('f_bavail', 'f_bfree', 'f_blocks', 'f_bsize', 'f_frsize')}


FUSE(
    NfsLike(),
    point,
    foreground=True,
    raw_fi=False,
    use_ino=True,
    subtype='fuse-nfs',
    attr_timeout=3,
    entry_timeout=3,
)
