package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// folder is where the files of a checkpoint lie: a directory of a file system,
// which need not be its root. On disk the file system is an os.Root, so that no
// name and no symbolic link reaches beyond it.
type folder struct {
	fsys  fs.FS
	dir   string // within fsys, "." for its root
	path  string // as the user knows it
	close func() error
}

// open opens a regular file of the folder and returns its size. What the name
// stands for is looked at before it is opened, since opening a named pipe would
// wait for a writer.
func (f folder) open(name string) (fs.File, int64, error) {
	if !fs.ValidPath(name) || strings.ContainsRune(name, '\\') || !filepath.IsLocal(name) {
		return nil, 0, fmt.Errorf("want the name of a file in the folder, have %s", quote(name))
	}
	full := path.Join(f.dir, name)
	before, err := fs.Stat(f.fsys, full)
	if err != nil {
		return nil, 0, f.explain(full, err)
	}
	if err := checkRegular(before.Mode()); err != nil {
		return nil, 0, err
	}
	file, err := f.fsys.Open(full)
	if err != nil {
		return nil, 0, cause(err)
	}
	after, err := file.Stat()
	if err == nil {
		err = checkRegular(after.Mode())
	}
	if err != nil {
		return nil, 0, errors.Join(cause(err), file.Close())
	}
	return file, after.Size(), nil
}

// explain turns the error of looking at a file into one that tells a link that
// leaves the folder, or leads nowhere, from a file that is absent.
func (f folder) explain(full string, err error) error {
	info, lerr := fs.Lstat(f.fsys, full)
	if lerr != nil || info.Mode()&fs.ModeSymlink == 0 {
		return cause(err)
	}
	target, lerr := fs.ReadLink(f.fsys, full)
	switch {
	case lerr != nil:
		return cause(err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("follow the symbolic link to %s: %w; the download may be incomplete", target, cause(err))
	}
	return fmt.Errorf("follow the symbolic link to %s: it leaves the folder of the checkpoint: %w", target, cause(err))
}

// cause strips the operation and the path within the root from err: the caller
// names the file as the user knows it.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// checkRegular returns an error that says what a file is when it is not a
// regular one.
func checkRegular(mode fs.FileMode) error {
	kind := ""
	switch mode.Type() {
	case 0:
		return nil
	case fs.ModeDir:
		kind = "a directory"
	case fs.ModeNamedPipe:
		kind = "a named pipe"
	case fs.ModeSocket:
		kind = "a socket"
	default:
		kind = "a device"
	}
	return fmt.Errorf("want a regular file, have %s", kind)
}

// read returns the file called name, of at most limit bytes.
func (f folder) read(name string, limit int64) ([]byte, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(f.path, name), err)
	}
	defer file.Close()
	// A file may grow after its size was asked for, so the limit holds for
	// what is read as well.
	data := []byte(nil)
	if size <= limit {
		data, err = io.ReadAll(io.LimitReader(file, limit+1))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", filepath.Join(f.path, name), cause(err))
	case size > limit || int64(len(data)) > limit:
		return nil, fmt.Errorf("read %s: it has %d bytes, want at most %d", filepath.Join(f.path, name), max(size, int64(len(data))), limit)
	}
	return data, nil
}

// has reports whether the folder has an entry called name, of any kind.
func (f folder) has(name string) bool {
	_, err := fs.Lstat(f.fsys, path.Join(f.dir, name))
	return err == nil
}

// openDir opens the directory at dir on disk. Its root is the directory, or the
// whole cache folder of the model where dir is a snapshot in one: the files of a
// snapshot are links to ../../blobs.
func openDir(dir string) (folder, error) {
	root, within := dir, "."
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		if real, err = filepath.Abs(real); err == nil {
			snapshots := filepath.Dir(real)
			cache := filepath.Dir(snapshots)
			if info, err := os.Stat(filepath.Join(cache, "blobs")); filepath.Base(snapshots) == "snapshots" && err == nil && info.IsDir() {
				root, within = cache, path.Join("snapshots", filepath.Base(real))
			}
		}
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return folder{}, cause(err)
	}
	return folder{fsys: r.FS(), dir: within, path: dir, close: r.Close}, nil
}

// maxRevisionBytes bounds refs/main, which holds a commit of 40 digits.
const maxRevisionBytes = 256

// snapshot returns the folder of the checkpoint for a directory that the user
// named: the snapshot of the revision "main", or the only one, for the cache
// folder of a model (models--org--name), and dir itself for any other.
func snapshot(dir string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return dir, nil
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
		return dir, nil
	}
	refs, err := openDir(filepath.Join(dir, "refs"))
	if err == nil {
		defer refs.close()
		revision, err := refs.read("main", maxRevisionBytes)
		if err == nil {
			name := string(revision)
			for name != "" && name[len(name)-1] <= ' ' {
				name = name[:len(name)-1]
			}
			for _, e := range entries {
				if e.Name() == name {
					return filepath.Join(dir, "snapshots", name), nil
				}
			}
			return "", fmt.Errorf("refs/main names snapshot %s, which is not there: the download may be incomplete", quote(name))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if len(entries) == 1 {
		return filepath.Join(dir, "snapshots", entries[0].Name()), nil
	}
	return "", fmt.Errorf("it holds %d snapshots and no refs/main: name one of the folders in %s", len(entries), filepath.Join(dir, "snapshots"))
}
