<?php

declare(strict_types=1);

namespace Ws2Api;

/** ws2api is not there, or broke off. */
final class IngressUnreachable extends PushFailed
{
    /** @param bool $isWritten the request has left, or part of it */
    public function __construct(string $why, public readonly bool $isWritten)
    {
        parent::__construct($why);
    }

    public function mayHaveRun(): bool
    {
        return $this->isWritten;
    }
}
