// Prints the times of files, written, linked and set, as os and syscall have them, in nanoseconds since the epoch.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	check(err)
	return info
}

func main() {
	now := time.Now()
	check(os.WriteFile("f", []byte("1"), 0o600))
	check(os.Symlink("f", "l"))
	info := stat("f")
	link, err := os.Lstat("l")
	check(err)
	raw := info.Sys().(*syscall.Stat_t)
	fmt.Println(info.ModTime().UnixNano(), link.ModTime().UnixNano(), raw.Ctim.Nano(), raw.Atim.Nano())
	fmt.Println(info.ModTime().Equal(now), time.Since(info.ModTime()) < time.Minute)

	check(os.Chtimes("f", time.Unix(5, 6), time.Unix(7, 8)))
	raw = stat("f").Sys().(*syscall.Stat_t)
	fmt.Println(raw.Atim.Nano(), raw.Mtim.Nano(), raw.Ctim.Nano())
	check(os.Chtimes("f", now, now))
	fmt.Println(stat("f").ModTime().UnixNano())

	file, err := os.OpenFile("f", os.O_WRONLY|os.O_TRUNC, 0)
	check(err)
	_, err = file.Write([]byte("22"))
	check(err)
	info, err = file.Stat()
	check(err)
	fmt.Println(info.ModTime().UnixNano())
	check(filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		check(err)
		info, err := entry.Info()
		check(err)
		fmt.Println(path, info.ModTime().UnixNano())
		return nil
	}))
}
