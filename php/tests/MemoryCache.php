<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use Psr\SimpleCache\CacheInterface;

/** A PSR-16 cache as an array; time is what the test says. Fits all three versions of the interface. */
final class MemoryCache implements CacheInterface
{
    public int $now = 0;
    /** @var array<string, array{mixed, int}> */
    private array $values = [];

    public function get($key, $default = null): mixed
    {
        return $this->has($key) ? $this->values[$key][0] : $default;
    }

    public function set($key, $value, $ttl = null): bool
    {
        $this->values[$key] = [$value, $this->now + (int) ($ttl ?? PHP_INT_MAX / 2)];
        return true;
    }

    public function delete($key): bool
    {
        unset($this->values[$key]);
        return true;
    }

    public function clear(): bool
    {
        $this->values = [];
        return true;
    }

    public function has($key): bool
    {
        if (strpbrk($key, '{}()/\@:') !== false) {
            throw new \InvalidArgumentException("PSR-16 forbids $key");
        }
        return isset($this->values[$key]) && $this->values[$key][1] > $this->now;
    }

    public function getMultiple($keys, $default = null): iterable
    {
        throw new \LogicException('not used');
    }

    public function setMultiple($values, $ttl = null): bool
    {
        throw new \LogicException('not used');
    }

    public function deleteMultiple($keys): bool
    {
        throw new \LogicException('not used');
    }
}
