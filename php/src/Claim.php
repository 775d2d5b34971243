<?php

declare(strict_types=1);

namespace Ws2Api;

/** What is known of an `Idempotency-Key`. */
enum Claim
{
    /** It is new; it is yours now. */
    case Fresh;
    /** Somebody works on it. */
    case Running;
    /** It has been dealt with. */
    case Done;
}
