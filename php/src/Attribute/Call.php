<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that answers a client's Call. What it returns is the payload of the CallResult: anything that becomes JSON,
 * a {@see \Ws2Api\Raw}, or a {@see \Ws2Api\Deferred}. A {@see \Ws2Api\CallError} that it throws is the CallError.
 */
#[Attribute(Attribute::TARGET_METHOD | Attribute::IS_REPEATABLE)]
final class Call
{
    /** @param string|null $action null: every Action that no other method is named for */
    public function __construct(public readonly ?string $action = null)
    {
    }
}
