<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * Keys as files of a folder, for all workers of one machine. Of two workers with the same key only one gets it: the file
 * system sees to that.
 */
final class FileKeyStore implements KeyStore
{
    private const DONE = 'done';

    /**
     * @param string $folder made if it is not there; best on a tmpfs
     * @param int $kept seconds that a key is remembered
     * @param int $running seconds after which a claim is given up
     */
    public function __construct(
        private readonly string $folder,
        private readonly int $kept = 120,
        private readonly int $running = 20,
    ) {
        if (!is_dir($folder) && !@mkdir($folder, 0700, true) && !is_dir($folder)) {
            throw new \RuntimeException("$folder can't be made");
        }
    }

    public function claim(string $key): Claim
    {
        if (random_int(1, 200) === 1) {
            $this->sweep();
        }
        $file = $this->file($key);
        // Twice, since the first look may end with an old file's removal.
        for ($try = 0; $try < 2; ++$try) {
            if ($handle = @fopen($file, 'x')) {
                fclose($handle);
                return Claim::Fresh;
            }
            clearstatcache(true, $file);
            $age = time() - (@filemtime($file) ?: time());
            $isDone = @file_get_contents($file) === self::DONE;
            if ($age <= ($isDone ? $this->kept : $this->running)) {
                return $isDone ? Claim::Done : Claim::Running;
            }
            @unlink($file);
        }
        return Claim::Running;
    }

    public function keep(string $key): void
    {
        file_put_contents($this->file($key), self::DONE);
    }

    public function release(string $key): void
    {
        @unlink($this->file($key));
    }

    private function sweep(): void
    {
        foreach (new \DirectoryIterator($this->folder) as $file) {
            if ($file->isFile() && $file->getMTime() < time() - $this->kept) {
                @unlink($file->getPathname());
            }
        }
    }

    private function file(string $key): string
    {
        return "$this->folder/" . hash('sha256', $key);
    }
}
