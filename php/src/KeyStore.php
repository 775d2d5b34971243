<?php

declare(strict_types=1);

namespace Ws2Api;

/** Remembers `Idempotency-Key`s for at least `result_ttl` (60 s), for all workers together. */
interface KeyStore
{
    /** Takes the key, if it is new. A claim that is neither kept nor released in time (its process died) is given up. */
    public function claim(string $key): Claim;

    /** What the key stands for has been done. */
    public function keep(string $key): void;

    /** It has failed: the next one may try. */
    public function release(string $key): void;
}
