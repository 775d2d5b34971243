<?php

declare(strict_types=1);

namespace Ws2Api;

use Psr\SimpleCache\CacheInterface;

/**
 * Keys in a cache that all workers share (Redis, Memcached, APCu under PHP-FPM).
 *
 * PSR-16 can only ask and then write, so two workers that get the same key at the same moment can both have it. ws2api comes
 * again 250 ms after a failure at the earliest; where that is not enough, use the database's unique keys in the handler.
 */
final class CacheKeyStore implements KeyStore
{
    /**
     * @param int $kept seconds that a key is remembered
     * @param int $running seconds after which a claim is given up
     */
    public function __construct(
        private readonly CacheInterface $cache,
        private readonly int $kept = 120,
        private readonly int $running = 20,
        private readonly string $prefix = 'ws2api.',
    ) {
    }

    public function claim(string $key): Claim
    {
        $name = $this->name($key);
        switch ($this->cache->get($name)) {
            case 'done':
                return Claim::Done;
            case 'running':
                return Claim::Running;
            default:
                $this->cache->set($name, 'running', $this->running);
                return Claim::Fresh;
        }
    }

    public function keep(string $key): void
    {
        $this->cache->set($this->name($key), 'done', $this->kept);
    }

    public function release(string $key): void
    {
        $this->cache->delete($this->name($key));
    }

    /** PSR-16 forbids some characters. */
    private function name(string $key): string
    {
        return $this->prefix . hash('sha256', $key);
    }
}
