<?php

declare(strict_types=1);

namespace Ws2Api;

/** JSON text that passes as it is: nothing decodes and encodes it, so numbers, escapes and the order of keys stay. */
final class Raw implements \Stringable
{
    public function __construct(private readonly string $json)
    {
    }

    public function __toString(): string
    {
        return $this->json;
    }
}
